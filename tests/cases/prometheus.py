# SPDX-License-Identifier: MIT
"""Prometheus' text format 0.0.4, read strictly: what the format does not allow is an error."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)(?: -?[0-9]+)?")
SUFFIXES = {"counter": [""], "gauge": [""], "summary": ["_sum", "_count"]}
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def labels(text):
    found, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"labels: {text[at:]}"
        assert match[1] not in found, f"label twice: {text}"
        found[match[1]] = re.sub(r"\\.", lambda escape: ESCAPES[escape[0]], match[2])
        at = match.end()
    return found


def parse(text):
    """{family: (type, {(name, (label, value)…): number})}"""
    assert text.endswith("\n")
    families, family, helped = {}, None, None
    for line in text[:-1].split("\n"):
        word = line.split(" ", 3)
        if word[:2] == ["#", "HELP"]:
            assert re.fullmatch(NAME, word[2]) and word[2] not in families and word[3].strip(), line
            assert not re.search(r"\\(?![\\n])", word[3]), line
            helped = word[2]
        elif word[:2] == ["#", "TYPE"]:
            assert word[2] == helped and word[2] not in families and word[3] in SUFFIXES, line
            family = families[word[2]] = (word[3], {})
            allowed = [word[2] + suffix for suffix in SUFFIXES[word[3]]]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line}"
            assert family and helped in families and match[1] in allowed, f"not of the family before it: {line}"
            key = (match[1], *sorted(labels(match[2] or "").items()))
            assert key not in family[1], f"twice: {line}"
            family[1][key] = float(match[3])
            assert family[0] == "gauge" or family[1][key] >= 0, line
    return families
