// A handshake that the signer of the AWS SDK for JavaScript v3 has presigned.
const { createHash, createHmac } = require("node:crypto");
const { SignatureV4 } = require("@smithy/signature-v4");

const args = JSON.parse(process.argv[2]);

class Sha256 {
  constructor(secret) {
    this.hash = secret ? createHmac("sha256", secret) : createHash("sha256");
  }
  update(data) {
    this.hash.update(data);
  }
  async digest() {
    return new Uint8Array(this.hash.digest());
  }
}

async function main() {
  const signer = new SignatureV4({
    credentials: { accessKeyId: args.accessKey, secretAccessKey: args.secretKey },
    region: args.region,
    service: "execute-api",
    sha256: Sha256,
  });
  const signed = await signer.presign(
    {
      method: "GET", protocol: "wss:", hostname: "127.0.0.1", port: args.port, path: args.path,
      query: { room: "blue" }, headers: { host: `127.0.0.1:${args.port}` },
    },
    { expiresIn: 60 },
  );
  const pairs = Object.entries(signed.query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  console.log(JSON.stringify({ query: pairs.join("&") }));
}

main();
