// The AWS SDK for JavaScript v3 and `ws`, as published. Arguments come as one JSON object.
const args = JSON.parse(process.argv[2]);
const credentials = { accessKeyId: args.accessKey, secretAccessKey: args.secretKey };
const common = { region: args.region, credentials };

function control(extra = {}) {
  const { ApiGatewayV2Client } = require("@aws-sdk/client-apigatewayv2");
  return new ApiGatewayV2Client({ ...common, endpoint: args.admin, ...extra });
}

function management(endpoint, extra = {}) {
  const { ApiGatewayManagementApiClient } = require("@aws-sdk/client-apigatewaymanagementapi");
  return new ApiGatewayManagementApiClient({ ...common, endpoint, ...extra });
}

// What a caller of the SDK sees of a failure.
async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.name, status: error.$metadata && error.$metadata.httpStatusCode, message: error.message };
  }
  return null;
}

// A WebSocket whose messages can be awaited one by one.
function open(url, protocols = [], options = {}) {
  const WebSocket = require("ws");
  const socket = new WebSocket(url, protocols, options);
  const queue = [];
  const waiting = [];
  socket.on("message", (data) => {
    const text = data.toString();
    if (waiting.length) waiting.shift()(text);
    else queue.push(text);
  });
  socket.next = () => (queue.length ? Promise.resolve(queue.shift()) : new Promise((done) => waiting.push(done)));
  socket.opened = new Promise((done, failed) => {
    socket.once("open", done);
    socket.once("error", failed);
    socket.once("unexpected-response", (_, response) => failed(new Error(`status ${response.statusCode}`)));
  });
  socket.ended = new Promise((done) => socket.once("close", (code, reason) => done({ code, reason: reason.toString() })));
  return socket;
}

function main(run) {
  run().then(
    (result) => {
      process.stdout.write(JSON.stringify(result));
      process.exit(0);
    },
    (error) => {
      process.stderr.write(`${error.stack || error}\n`);
      process.exit(1);
    },
  );
}

module.exports = { args, control, management, failure, open, main };
