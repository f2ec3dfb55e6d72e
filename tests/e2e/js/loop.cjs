// AG-1, 8, 9, 11, 12: create an API, connect, message, two-way, push, GET, DELETE, every modelled error.
const { args, control, management, failure, open, main } = require("./lib.cjs");
const v2 = require("@aws-sdk/client-apigatewayv2");
const m = require("@aws-sdk/client-apigatewaymanagementapi");

main(async () => {
  const client = control();
  const api = await client.send(
    new v2.CreateApiCommand({ Name: "js", ProtocolType: "WEBSOCKET", RouteSelectionExpression: "$request.body.action" }),
  );
  const ApiId = api.ApiId;
  for (const key of ["$connect", "$disconnect", "$default", "two-way"]) {
    const integration = await client.send(
      new v2.CreateIntegrationCommand({
        ApiId,
        IntegrationType: "HTTP_PROXY",
        IntegrationMethod: "POST",
        IntegrationUri: `${args.backend}/${key.replace("$", "")}`,
        RequestParameters: { "integration.request.header.connectionId": "context.connectionId" },
      }),
    );
    const twoWay = key === "two-way" ? { RouteResponseSelectionExpression: "$default" } : {};
    const route = await client.send(
      new v2.CreateRouteCommand({ ApiId, RouteKey: key, Target: `integrations/${integration.IntegrationId}`, ...twoWay }),
    );
    if (key === "two-way")
      await client.send(new v2.CreateRouteResponseCommand({ ApiId, RouteId: route.RouteId, RouteResponseKey: "$default" }));
  }
  await client.send(new v2.CreateStageCommand({ ApiId, StageName: "prod" }));
  const deployment = await client.send(new v2.CreateDeploymentCommand({ ApiId, StageName: "prod" }));
  const read = await client.send(new v2.GetApiCommand({ ApiId }));

  const base = `${args.public}/_aws/execute-api/${ApiId}/prod`;
  const ws = open(base.replace("http:", "ws:"), [], { headers: { "User-Agent": "NodeClient/1" } });
  await ws.opened;
  ws.send(JSON.stringify({ action: "two-way", say: "id" }));
  const { connectionId } = JSON.parse(await ws.next());
  const push = management(base);
  const ConnectionId = connectionId;
  const posted = await push.send(new m.PostToConnectionCommand({ ConnectionId, Data: "from node ü" }));
  const text = await ws.next();
  await push.send(new m.PostToConnectionCommand({ ConnectionId, Data: Buffer.alloc(131072, "x") }));
  const big = (await ws.next()).length;
  const tooLarge = await failure(push.send(new m.PostToConnectionCommand({ ConnectionId, Data: Buffer.alloc(131073, "x") })));
  const info = await push.send(new m.GetConnectionCommand({ ConnectionId }));
  const malformed = await failure(push.send(new m.PostToConnectionCommand({ ConnectionId: "abc", Data: "x" })));
  const forbidden = await failure(
    management(`${args.public}/_aws/execute-api/${ApiId}/nope`).send(new m.PostToConnectionCommand({ ConnectionId, Data: "x" })),
  );
  const wrongSecret = await failure(
    management(base, { credentials: { accessKeyId: args.accessKey, secretAccessKey: "wrong" } }).send(
      new m.PostToConnectionCommand({ ConnectionId, Data: "x" }),
    ),
  );
  const deleted = await push.send(new m.DeleteConnectionCommand({ ConnectionId }));
  const ended = await ws.ended;
  const gone = [];
  for (const command of [m.PostToConnectionCommand, m.GetConnectionCommand, m.DeleteConnectionCommand])
    gone.push(await failure(push.send(new command({ ConnectionId, Data: "x" }))));

  const notFound = await failure(client.send(new v2.GetApiCommand({ ApiId: "aaaaaaaaaa" })));
  const conflict = await failure(client.send(new v2.CreateStageCommand({ ApiId, StageName: "prod" })));
  const badRequest = await failure(client.send(new v2.CreateApiCommand({ Name: "h", ProtocolType: "HTTP" })));
  let token, listed = [];
  do {
    const page = await client.send(new v2.GetRoutesCommand({ ApiId, MaxResults: "3", NextToken: token }));
    listed = listed.concat(page.Items.map((item) => item.RouteKey));
    token = page.NextToken;
  } while (token);
  return {
    createdIsDate: api.CreatedDate instanceof Date && read.CreatedDate instanceof Date && deployment.CreatedDate instanceof Date,
    postStatus: posted.$metadata.httpStatusCode,
    requestId: posted.$metadata.requestId,
    text,
    big,
    tooLarge,
    info: {
      identity: info.Identity,
      dates: info.ConnectedAt instanceof Date && info.LastActiveAt instanceof Date && info.LastActiveAt >= info.ConnectedAt,
    },
    malformed,
    forbidden,
    wrongSecret,
    deletedStatus: deleted.$metadata.httpStatusCode,
    ended,
    gone,
    notFound,
    conflict,
    badRequest,
    listed,
  };
});
