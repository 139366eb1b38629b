"""The command line: ``python3 dev/cluster up|down|status|env|images|load|helm-path|envtest``."""

from __future__ import annotations

import argparse
import os
import sys

from cluster import binaries, paths
from cluster.errors import ClusterError
from cluster.native import Native


def main(argv):
    parser = argparse.ArgumentParser(prog="python3 dev/cluster")
    parser.add_argument("verb")
    parser.add_argument("--fake-gpus", type=int)
    o = parser.parse_args(argv)
    layout = paths.layout()
    n = Native(layout)
    try:
        if o.verb == "up":
            n.up(o.fake_gpus)
        elif o.verb == "down":
            n.down()
        elif o.verb == "provision-volumes":
            from cluster import storage
            from cluster.api_client import client_for
            storage.serve(client_for(layout.kubeconfig), layout.shared)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
