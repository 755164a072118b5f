// Calls a server of INTERFACE=omi with @grpc/grpc-js, and prints what came, as one line of JSON.
// Arguments: the port, and the folder of the .proto files.
"use strict";

const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [port, protos] = process.argv.slice(2);

function load(file) {
  const options = { keepCase: true, longs: Number, includeDirs: [protos] };
  return grpc.loadPackageDefinition(loader.loadSync(path.join(protos, file), options));
}

const limits = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };
const address = `127.0.0.1:${port}`;
const credentials = grpc.credentials.createInsecure();
const modzy = new (load("modzy/model.proto").ModzyModel)(address, credentials, limits);
const v2 = load("openmodel/v2/inference.proto").openmodel.v2;
const inference = new v2.InferenceService(address, credentials, limits);

function run(input, metadata = new grpc.Metadata(), options = {}) {
  return new Promise((resolve) => {
    const said = {};
    const request = { inputs: input.map((data) => ({ input: { data } })) };
    const call = modzy.Run(request, metadata, options, (error, answer) => {
      said.code = error ? grpc.status[error.code] : "OK";
      said.details = error ? error.details : "";
      said.status = error ? 0 : answer.status_code;
      said.echo = error ? [] : answer.outputs.map((output) => output.output.output);
    });
    call.on("status", (status) => {
      said.id = status.metadata.get("x-request-id")[0];
      setImmediate(() => resolve(said));
    });
    if (options.cancelled) setTimeout(() => call.cancel(), 50);
  });
}

function converse(texts) {
  return new Promise((resolve) => {
    const said = [];
    const call = inference.PredictStream();
    call.on("data", (answer) => {
      said.push(answer.outputs.map((output) => output.data ? output.data.data.toString() : "?"));
      if (said.length < texts.length) ask(texts[said.length]);
      else call.end();
    });
    call.on("error", (error) => resolve(error.details));
    call.on("end", () => resolve(said.length));
    const ask = (text) => call.write({ inputs: [{ key: "data", data: Buffer.from(text) }] });
    ask(texts[0]);
  });
}

async function main() {
  const large = Buffer.alloc(20 * 1024 * 1024, "0123456789");
  const metadata = new grpc.Metadata();
  metadata.set("x-request-id", "from-node");
  metadata.set("trace-bin", Buffer.from([0, 255, 1]));
  const small = await run([Buffer.from("one")], metadata);
  small.echo = small.echo.map(String);
  const whole = await run([large]);
  const refused = await run([large, large]);
  const next = await run([Buffer.from("next")]);
  const late = await run([Buffer.from("wait")], undefined, { deadline: Date.now() + 300 });
  const many = await Promise.all(Array.from({ length: 300 }, (_, i) => run([Buffer.from(`${i}`)])));
  const said = {
    small,
    large: [whole.code, whole.echo.length === 1 && whole.echo[0].equals(large)],
    "too large": [refused.code, refused.details.includes("OMI_MAX_REQUEST_BYTES"), next.code],
    many: many.every((one, i) => one.code === "OK" && one.echo[0].toString() === `${i}`),
    late: [late.code, late.status],
    cancelled: (await run([Buffer.from("wait")], undefined, { cancelled: true })).code,
    stream: await converse(["a", "b", "c", "d"]),
    after: (await run([Buffer.from("well")])).code,
  };
  console.log(JSON.stringify(said));
  modzy.close();
  inference.close();
}

main();
