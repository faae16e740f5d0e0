#!/usr/bin/env python3
"""Are all metrics that the dashboard and the Kubernetes file ask for on the server's page?

    python3 deploy/check_dashboard.py http://127.0.0.1:8080/metrics
    python3 deploy/check_dashboard.py metrics.txt front.txt

A PAGE is the address or the file of what `/metrics` says; of several, a name has to be on one. Metrics with labels have no line
before they have a value: ask the server for something first, and once for what fails. `embral_worker` is on the page of a front alone.

Compared are the names of metrics, the names of labels, and the values of the labels `what`, `stage`, `found` and `cause`, which are
fixed.
Exit status: 0 when all are there, 1 when one is not, 2 when a file or page cannot be read.
"""

import json
import pathlib
import re
import sys
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
NAME = r"(?:embral|te)_[a-z0-9_]+"
LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? \S+")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
SELECTOR = re.compile(rf"\b({NAME})\b(?:\{{([^}}]*)\}})?")
MATCHER = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
# Labels whose values the server fixes.
FIXED = {"what", "stage", "found", "cause"}
# Metrics whose values of such a label are there only once they have happened.
HAPPENS = {"embral_failures_total"}
# Labels that Prometheus adds, and those that the rule of the adapter names.
ADDED = {"job", "instance", "namespace", "pod"}


def read(page):
    if page.startswith(("http://", "https://")):
        with urllib.request.urlopen(page, timeout=20) as answer:
            return answer.read().decode()
    return pathlib.Path(page).read_text(encoding="utf-8")


def offered(pages):
    """Of each metric its labels, and of each label its values."""
    metrics = {}
    for page in pages:
        for line in page.splitlines():
            found = None if line.startswith("#") else LINE.match(line)
            if not found:
                continue
            labels = metrics.setdefault(found[1], {})
            for name, value in LABEL.findall(found[2] or ""):
                labels.setdefault(name, set()).add(value)
    return metrics


def texts(value):
    """All texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def asked():
    """Where, and for which metric with which matchers."""
    dashboard = json.loads((HERE / "grafana.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            for name, inner in SELECTOR.findall(target["expr"]):
                yield f"grafana.json, {panel['title']!r}", name, MATCHER.findall(inner)
    for text in texts(dashboard.get("templating", {})):
        for name, inner in SELECTOR.findall(text):
            yield "grafana.json, variables", name, MATCHER.findall(inner)
    kubernetes = (HERE / "kubernetes.yaml").read_text(encoding="utf-8")
    made = re.search(r"^#?\s*as: (\S+)$", kubernetes, re.MULTILINE)[1]
    for number, line in enumerate(kubernetes.splitlines(), 1):
        # What the adapter makes of a series, and the autoscaler asks for, is on no page.
        for name, inner in SELECTOR.findall(line):
            if name == made:
                continue
            yield f"kubernetes.yaml, line {number}", name, MATCHER.findall(inner)


def faults(metrics):
    for where, name, matchers in asked():
        labels = metrics.get(name)
        if labels is None:
            yield f"{where}: there is no metric {name}"
            continue
        for label, how, value in matchers:
            if label in ADDED:
                continue
            if label not in labels:
                yield f"{where}: {name} has no label {label}"
            elif label in FIXED and name not in HAPPENS and how in ("=", "=~") and "$" not in value:
                for one in value.split("|"):
                    if one not in labels[label] and not re.search(r"[.*+\[(]", one):
                        yield f"{where}: {name} has no {label}={one!r}"


def main():
    pages = sys.argv[1:]
    if not pages or pages[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if pages else 2)
    try:
        metrics = offered(map(read, pages))
        found = sorted(set(faults(metrics)))
        names = {name for _, name, _ in asked()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"check_dashboard: {error}", file=sys.stderr)
        sys.exit(2)
    for fault in found:
        print(fault)
    if found:
        sys.exit(1)
    print(f"{len(names)} metrics, all of them on the page")


if __name__ == "__main__":
    main()
