// npm eventsource.
import { EventSource } from "eventsource";
import { observe } from "./observe.mjs";

observe((url) => new EventSource(url));
