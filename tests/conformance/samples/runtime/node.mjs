// Runs a Node.js handler: the Runtime API of Lambda, as its documentation describes it. `node node.mjs`, handler in _HANDLER (`file.export`).
import { createRequire } from "node:module";
import path from "node:path";

const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;
const root = process.env.LAMBDA_TASK_ROOT || process.cwd();
const dot = process.env._HANDLER.lastIndexOf(".");
const file = path.join(root, process.env._HANDLER.slice(0, dot));
const name = process.env._HANDLER.slice(dot + 1);

const post = (address, value, headers = {}) => fetch(`${base}${address}`, { method: "POST", headers, body: JSON.stringify(value ?? null) });
const problem = (error) => ({
  errorMessage: error?.message ?? String(error),
  errorType: error?.name ?? "Error",
  trace: (error?.stack ?? "").split("\n"),
});

let handler;
try {
  handler = createRequire(import.meta.url)(file)[name];
} catch (error) {
  await post("/init/error", problem(error), { "Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError" });
  throw error;
}
for (;;) {
  const next = await fetch(`${base}/invocation/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const deadline = Number(next.headers.get("lambda-runtime-deadline-ms"));
  process.env._X_AMZN_TRACE_ID = next.headers.get("lambda-runtime-trace-id") ?? "";
  const context = {
    awsRequestId: id,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    invokedFunctionArn: next.headers.get("lambda-runtime-invoked-function-arn"),
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  try {
    const event = await next.json();
    // The older style: a callback in place of a promise.
    const result = await (handler.length > 2
      ? new Promise((done, failed) => handler(event, context, (error, value) => (error ? failed(error) : done(value))))
      : handler(event, context));
    await post(`/invocation/${id}/response`, result);
  } catch (error) {
    await post(`/invocation/${id}/error`, problem(error), { "Lambda-Runtime-Function-Error-Type": error?.name ?? "Error" });
  }
}
