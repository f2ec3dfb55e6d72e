// 5.3: LimitExceededException as the SDK shows it, for a client that does not read.
const { args, management, failure, main } = require("./lib.cjs");
const m = require("@aws-sdk/client-apigatewaymanagementapi");

main(async () => {
  const push = management(args.endpoint, { maxAttempts: 1 });
  const Data = Buffer.alloc(131072, "x");
  for (let count = 0; count < 500; count++) {
    const failed = await failure(push.send(new m.PostToConnectionCommand({ ConnectionId: args.connectionId, Data })));
    if (failed) return { count, failed };
  }
  return { count: 500, failed: null };
});
