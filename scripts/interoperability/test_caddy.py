"""`examples/reverse-proxy/Caddyfile` with a real Caddy."""

from proxies import substitute
from proxy_cases import ProxyCase, ProxyCases


class Caddy(ProxyCases, ProxyCase):
    proxy_name = "caddy"

    def with_node(self, recipe, node):
        return substitute(recipe, {"# to 10.0.0.2:5000": f"to {node}"})
