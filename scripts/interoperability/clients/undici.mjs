// The EventSource of undici, which Node has as a built-in behind a flag.
import { EventSource } from "undici";
import { observe } from "./observe.mjs";

observe((url) => new EventSource(url));
