// HTTP/2 in front of HTTP/1.1: https://…/{port}/{path} is http://127.0.0.1:{port}/{path}.
//
// An independent peer: Node's implementation shares nothing with the client. Serves h2 and nothing else; one server
// takes everybody, the other asks for a certificate. Prints where they listen, tells at /stats what it has seen, and
// ends with its standard input. Usage: node http2_front.mjs FOLDER (with cert.pem, key.pem and ca.pem)

import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";

const [folder] = process.argv.slice(2);
const pem = (name) => readFileSync(`${folder}/${name}.pem`);
const agent = new http.Agent({ keepAlive: true });
const seen = { requests: 0, streams: 0, sessions: 0, reset: 0, protocols: {}, clients: {} };
const HOP_BY_HOP = new Set(["connection", "keep-alive", "transfer-encoding", "host"]);

function relayed(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !name.startsWith(":") && !HOP_BY_HOP.has(name)));
}

function serve(stream, headers) {
  stream.on("error", () => {});
  if (headers[":path"] === "/stats") {
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify(seen));
    return;
  }
  seen.requests += 1;
  seen.streams += 1;
  const { alpnProtocol, socket } = stream.session;
  seen.protocols[alpnProtocol] = (seen.protocols[alpnProtocol] ?? 0) + 1;
  const name = socket.getPeerCertificate().subject?.CN ?? "";
  seen.clients[name] = (seen.clients[name] ?? 0) + 1;
  const [, port, path] = /^\/(\d+)(\/.*)$/.exec(headers[":path"]);
  let done = false;
  const upstream = http.request(
    { host: "127.0.0.1", port, path, method: headers[":method"], headers: relayed(headers), agent },
    (response) => {
      stream.respond({ ":status": response.statusCode, ...relayed(response.headers) });
      response.on("end", () => { done = true; });
      response.on("error", () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
      response.pipe(stream);
    },
  );
  upstream.on("error", () => {
    if (!stream.headersSent && !stream.destroyed) stream.respond({ ":status": 502 }, { endStream: true });
  });
  stream.on("close", () => {
    seen.streams -= 1;
    if (done) return;
    seen.reset += 1;
    upstream.destroy();
  });
  stream.pipe(upstream);
}

const ports = await Promise.all([false, true].map((demanding) => new Promise((resolve) => {
  const server = http2.createSecureServer({
    key: pem("key"), cert: pem("cert"), ca: pem("ca"), requestCert: demanding, rejectUnauthorized: demanding,
    allowHTTP1: demanding,  // to refuse who has none in HTTP/1.1, too
  });
  server.on("session", (session) => {
    seen.sessions += 1;
    session.on("error", () => {});
    session.on("close", () => { seen.sessions -= 1; });
  });
  server.on("stream", serve);
  server.listen(0, "127.0.0.1", () => resolve(server.address().port));
})));
console.log(JSON.stringify(ports));
process.stdin.on("end", () => process.exit(0)).resume();
