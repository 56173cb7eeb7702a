// npm extended-eventsource.
import { EventSource } from "extended-eventsource";
import { observe } from "./observe.mjs";

observe((url) => new EventSource(url));
