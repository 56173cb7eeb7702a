// Many streams of one page, and a publish beside each of them when all are open.
import { report, url } from "./observe.mjs";

const count = Number(new URL(location).searchParams.get("streams"));
let open = 0;

function publishAll() {
  for (let number = 0; number < count; number++) {
    fetch(`${url}/event/step?channel=c${number}`, {
      method: "POST",
      headers: { "Content-Type": "text/plain" },
      body: `event ${number}`,
    });
  }
}

for (let number = 0; number < count; number++) {
  const source = new EventSource(`${url}/stream?channel=c${number}`);
  source.addEventListener("open", () => {
    open += 1;
    if (open === count) {
      publishAll();
    }
  });
  source.addEventListener("step", (event) => report({ type: event.type, data: event.data }));
}
