// What the scripts share: the AWS SDK for JavaScript v3 and `ws`, as published. Arguments come as one JSON object.
const WebSocket = require("ws");

const args = JSON.parse(process.argv[2]);
const credentials = { accessKeyId: args.accessKey, secretAccessKey: args.secretKey, sessionToken: args.token || undefined };
const common = { region: args.region, credentials };

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
function open(url) {
  const socket = new WebSocket(url, [], { headers: { "User-Agent": "NodeClient/1" } });
  const queue = [];
  const waiting = [];
  socket.on("message", (data) => (waiting.length ? waiting.shift()(data.toString()) : queue.push(data.toString())));
  socket.next = () => (queue.length ? Promise.resolve(queue.shift()) : new Promise((done) => waiting.push(done)));
  socket.opened = new Promise((done, failed) => {
    socket.once("open", done);
    socket.once("error", failed);
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

module.exports = { args, common, failure, open, main };
