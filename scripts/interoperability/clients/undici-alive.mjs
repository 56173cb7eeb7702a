// The same in a program that also does something else.
import "./undici.mjs";

setInterval(() => {}, 60_000);
