// A runtime for handlers in JavaScript without a native module: the Runtime API is four addresses.
//   command = ["node", "bootstrap.mjs", "app.handler"]
import { pathToFileURL } from "node:url";
import path from "node:path";

const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/`;
const post = (where, value) => fetch(base + where, { method: "POST", body: JSON.stringify(value ?? null) });
const told = (error) => ({
  errorType: error?.name ?? "Error",
  errorMessage: String(error?.message ?? error),
  trace: String(error?.stack ?? "").split("\n"),
});

let handler;
try {
  const [file, name] = process.argv[2].split(".");
  const url = pathToFileURL(path.resolve(`${file}.mjs`));
  handler = (await import(url))[name];
  if (typeof handler !== "function") throw new Error(`${process.argv[2]} is no function`);
} catch (error) {
  console.error(error);
  await post("init/error", told(error));
  process.exit(1);
}

for (;;) {
  const next = await fetch(`${base}invocation/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const deadline = Number(next.headers.get("lambda-runtime-deadline-ms"));
  process.env._X_AMZN_TRACE_ID = next.headers.get("lambda-runtime-trace-id") ?? "";
  const context = {
    awsRequestId: id,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    invokedFunctionArn: next.headers.get("lambda-runtime-invoked-function-arn"),
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  try {
    await post(`invocation/${id}/response`, await handler(await next.json(), context));
  } catch (error) {
    console.error(error);
    await post(`invocation/${id}/error`, told(error));
  }
}
