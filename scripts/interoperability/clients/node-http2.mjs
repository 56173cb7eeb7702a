// HTTP/2 as Node has it, without a package.
import http2 from "node:http2";

const url = new URL(process.argv[2]);
const session = http2.connect(url.origin);
const stream = session.request({ ":path": url.pathname + url.search });
stream.setEncoding("utf8");
stream.on("data", (text) => process.stdout.write(text));
stream.on("end", () => session.close());
