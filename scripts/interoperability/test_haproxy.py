"""`examples/reverse-proxy/haproxy.cfg` with a real HAProxy."""

from proxies import substitute
from proxy_cases import ProxyCase, ProxyCases


class HAProxy(ProxyCases, ProxyCase):
    proxy_name = "haproxy"

    def with_node(self, recipe, node):
        return substitute(recipe, {"# server hub2 10.0.0.2:5000": f"server hub2 {node}"})
