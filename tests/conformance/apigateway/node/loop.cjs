// AG-1, AG-8, AG-9, AG-11, AG-12: an API without a backend, a client, pushes, every modelled error.
const v2 = require("@aws-sdk/client-apigatewayv2");
const m = require("@aws-sdk/client-apigatewaymanagementapi");
const { args, common, failure, open, main } = require("./lib.cjs");

const fill = (pattern, api, stage) =>
  pattern.replace("{api}", api.ApiId).replace("{stage}", stage).replace("{region}", args.region).replace("{endpoint}", api.ApiEndpoint);

async function mockRoute(client, ApiId, RouteKey, answer) {
  const always = "\\$default";
  const integration = await client.send(
    new v2.CreateIntegrationCommand({
      ApiId,
      IntegrationType: "MOCK",
      TemplateSelectionExpression: always,
      RequestTemplates: { $default: '{"statusCode": 200}' },
    }),
  );
  const { IntegrationId } = integration;
  await client.send(
    new v2.CreateIntegrationResponseCommand({
      ApiId,
      IntegrationId,
      IntegrationResponseKey: "$default",
      TemplateSelectionExpression: always,
      ResponseTemplates: { $default: answer },
    }),
  );
  const Target = `integrations/${IntegrationId}`;
  const route = await client.send(new v2.CreateRouteCommand({ ApiId, RouteKey, Target, RouteResponseSelectionExpression: "$default" }));
  await client.send(new v2.CreateRouteResponseCommand({ ApiId, RouteId: route.RouteId, RouteResponseKey: "$default" }));
}

async function talk(client, api) {
  const { ApiId } = api;
  for (const key of ["$default", "join", "leave"]) await mockRoute(client, ApiId, key, '{"connectionId":"$context.connectionId"}');
  await client.send(new v2.CreateStageCommand({ ApiId, StageName: "prod" }));
  const deployment = await client.send(new v2.CreateDeploymentCommand({ ApiId, StageName: "prod" }));
  const read = await client.send(new v2.GetApiCommand({ ApiId }));
  await new Promise((done) => setTimeout(done, 1000 * args.settle));

  const ws = open(fill(args.connect, api, "prod"));
  await ws.opened;
  ws.send("who am I");
  const { connectionId: ConnectionId } = JSON.parse(await ws.next());
  const endpoint = (stage) => fill(args.management, api, stage).replace(/^ws/, "http");
  const management = (stage, extra = {}) => new m.ApiGatewayManagementApiClient({ ...common, endpoint: endpoint(stage), ...extra });
  const push = management("prod");
  const post = (client, Data, id = ConnectionId) => client.send(new m.PostToConnectionCommand({ ConnectionId: id, Data }));
  const posted = await post(push, "from node ü");
  const text = await ws.next();
  await post(push, Buffer.alloc(131072, "x"));
  const big = (await ws.next()).length;
  const tooLarge = await failure(post(push, Buffer.alloc(131073, "x")));
  const info = await push.send(new m.GetConnectionCommand({ ConnectionId }));
  const malformed = await failure(post(push, "x", "abc"));
  const forbidden = await failure(post(management("nope"), "x"));
  const wrong = { accessKeyId: common.credentials.accessKeyId, secretAccessKey: "wrong" };
  const wrongSecret = await failure(post(management("prod", { credentials: wrong }), "x"));
  const deleted = await push.send(new m.DeleteConnectionCommand({ ConnectionId }));
  const ended = await ws.ended;
  const gone = [];
  for (const command of [m.PostToConnectionCommand, m.GetConnectionCommand, m.DeleteConnectionCommand])
    gone.push(await failure(push.send(new command({ ConnectionId, Data: "x" }))));
  const notFound = await failure(client.send(new v2.GetApiCommand({ ApiId: "aaaaaaaaaa" })));
  const conflict = await failure(client.send(new v2.CreateStageCommand({ ApiId, StageName: "prod" })));
  const badRequest = await failure(client.send(new v2.CreateStageCommand({ ApiId, StageName: "a b" })));
  const listed = [];
  let NextToken;
  do {
    const page = await client.send(new v2.GetRoutesCommand({ ApiId, MaxResults: "2", NextToken }));
    listed.push(page.Items.map((item) => item.RouteKey));
    NextToken = page.NextToken;
  } while (NextToken);
  return {
    dates: [api.CreatedDate, read.CreatedDate, deployment.CreatedDate, info.ConnectedAt, info.LastActiveAt].every((date) => date instanceof Date),
    postStatus: posted.$metadata.httpStatusCode,
    requestId: posted.$metadata.requestId,
    userAgent: info.Identity.UserAgent,
    deletedStatus: deleted.$metadata.httpStatusCode,
    text, big, tooLarge, malformed, forbidden, wrongSecret, ended, gone, notFound, conflict, badRequest, listed,
  };
}

main(async () => {
  const client = new v2.ApiGatewayV2Client({ ...common, endpoint: args.control || undefined });
  const api = await client.send(new v2.CreateApiCommand({ Name: "js", ProtocolType: "WEBSOCKET", RouteSelectionExpression: "$request.body.action" }));
  try {
    return await talk(client, api);
  } finally {
    await client.send(new v2.DeleteApiCommand({ ApiId: api.ApiId }));
  }
});
