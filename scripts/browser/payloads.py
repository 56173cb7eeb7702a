"""Texts that a page must show as text, whatever it does with them."""

HIT = "window.hit=1"

PAYLOADS = [
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f"<svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<iframe src=\"javascript:parent.{HIT}\"></iframe>",
    f"<body onload={HIT}>",
    f"<details open ontoggle={HIT}>x</details>",
    f"<input autofocus onfocus={HIT}>",
    f"<a href=\"javascript:{HIT}\">click</a>",
    f"<math><mi xlink:href=\"data:x,<script>{HIT}</script>\">",
    "<link rel=stylesheet href=http://127.0.0.1:9/evil.css>",
    "<style>@import 'http://127.0.0.1:9/evil.css'</style>",
    "<meta http-equiv=refresh content=\"0;url=http://127.0.0.1:9/\">",
    "<base href=http://127.0.0.1:9/>",
    "<form action=http://127.0.0.1:9/><button>x</button></form>",
    f"<object data=\"javascript:{HIT}\"></object>",
    "<embed src=http://127.0.0.1:9/x>",
    "<video><source onerror=" + HIT + "></video>",
    f"</textarea><script>{HIT}</script>",
    f"</pre></code></script><script>{HIT}</script>",
    f"\"><script>{HIT}</script>",
    f"' onmouseover='{HIT}",
    f"\" autofocus onfocus=\"{HIT}\" x=\"",
    f"javascript:{HIT}",
    f"`${{{HIT}}}`",
    f"${{{HIT}}}",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"';{HIT};//",
    f"\\';{HIT};//",
    f"\\u003cscript>{HIT}\\u003c/script>",
    f"<!--<script>{HIT}//-->",
    f"<template><script>{HIT}</script></template>",
    "'; touch hit; '",
    "$(touch hit) `touch hit`",
    "@/etc/passwd",
    "-o hit -K hit",
    "\u202e\u2066evil\u2069\u202c \u200b\ufeff\u00ad",
    "a\u0001\u001b[31mred\u0085\u2028\u2029b",
    "__proto__",
    "{\"__proto__\":{\"polluted\":\"<img src=x onerror=" + HIT + ">\"},\"a\":[1,\"<b>\"]}",
]
assert len(PAYLOADS) == 40

# Characters that hide text or change its direction: a page shows them escaped.
HIDDEN = "\u202e\u2066\u2069\u202c\u200b\ufeff\u00ad\u0001\u001b\u0085\u2028\u2029"
