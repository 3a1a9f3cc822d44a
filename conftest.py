"""Hosts are tested in their own environments (make test-hosts): only there is a host's package installed."""

from importlib.util import find_spec

HOSTS = {"hftbacktest": "hftbacktest", "nautilus": "nautilus_trader", "vectorbt": "vectorbt"}
"""Package of each host, by the name of its module in riskcore.hosts."""

collect_ignore = ["tests/hosts"]
collect_ignore += [f"riskcore/hosts/{name}.py" for name, package in HOSTS.items() if not find_spec(package)]
