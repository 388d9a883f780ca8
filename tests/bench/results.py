# SPDX-License-Identifier: Apache-2.0
"""What was measured, and how it is shown: a table in Markdown, JSON, and bars in SVG."""

import json
import math
import statistics
from xml.sax.saxutils import escape

MANY = 5  # a median of fewer values is marked


class Measure:
    """One quantity of several subjects; `baseline` is the one whose median is 1 in the column of ratios."""

    def __init__(self, title, unit, baseline, digits):
        self.title, self.unit, self.baseline, self.digits = title, unit, baseline, digits
        self.values = {}

    def add(self, subject, value):
        self.values.setdefault(subject, []).append(value)

    def median(self, subject):
        return statistics.median(self.values[subject])

    def ratio(self, subject):
        base = self.median(self.baseline) if self.baseline in self.values else 0
        return self.median(subject) / base if base > 0 else None

    def row(self, subject):
        values = self.values[subject]
        ratio = self.ratio(subject)
        show = f"{{:.{self.digits}f}}".format
        spread = f"{show(min(values))}–{show(max(values))}" if len(values) > 1 else ""
        return [subject, show(self.median(subject)), spread, "" if ratio is None else f"{ratio:.2f}"]


class Histogram:
    """How often which values came, in buckets of which each is twice as wide as the one before it."""

    def __init__(self, unit):
        self.unit, self.values = unit, []

    def rows(self):
        """(low, high, count) of all buckets from the lowest value's to the highest one's."""
        numbers = [max(0, math.frexp(value)[1]) for value in self.values]  # 2^(n-1) <= value < 2^n
        return [(2 ** (n - 1) if n else 0, 2 ** n, numbers.count(n)) for n in range(min(numbers), max(numbers) + 1)]

    def lines(self):
        """The histogram as text, to be shown in a font of fixed width."""
        rows = self.rows()
        most = max(count for _, _, count in rows)
        return [f"{low:>7}–{high:<7} {self.unit} {count:>7} " + "#" * math.ceil(50 * count / most) for low, high, count in rows]


class Results:
    def __init__(self, directory, say=print):
        self.directory, self.measures, self.notes, self.say = directory, {}, [], say
        self.histograms = {}

    def add(self, title, unit, subject, value, baseline="in-process OpenSSL", digits=1):
        measure = self.measures.setdefault(title, Measure(title, unit, baseline, digits))
        measure.add(subject, value)

    def distribute(self, title, unit, values):
        """Adds values to a histogram."""
        self.histograms.setdefault(title, Histogram(unit)).values += values

    def note(self, text):
        self.notes.append(text)
        self.say("  " + text)

    def merge(self, other, prefix):
        """Takes over the results that json() of another run gave."""
        for title, fields in other["measures"].items():
            measure = Measure(prefix + title, fields["unit"], fields["baseline"], fields["digits"])
            measure.values = fields["values"]
            self.measures[prefix + title] = measure
        self.notes += [prefix + note for note in other["notes"]]

    def json(self):
        return {"measures": {m.title: {"unit": m.unit, "baseline": m.baseline, "digits": m.digits, "values": m.values,
                                       "medians": {s: m.median(s) for s in m.values}} for m in self.measures.values()},
                "histograms": {title: {"unit": h.unit, "rows": h.rows()} for title, h in self.histograms.items()},
                "notes": self.notes}

    def table(self, measure):
        lines = [f"### {measure.title}", "", f"| | {measure.unit} | of {len(next(iter(measure.values.values())))}"
                 + (f" | ÷ {measure.baseline} |" if measure.baseline else " | |"), "| --- | ---: | --- | ---: |"]
        lines += ["| " + " | ".join(measure.row(subject)) + " |" for subject in measure.values]
        return "\n".join(lines) + "\n"

    def markdown(self):
        text = "\n".join(self.table(measure) for measure in self.measures.values())
        for title, histogram in self.histograms.items():
            text += f"\n### {title}\n\n```\n" + "\n".join(histogram.lines()) + "\n```\n"
        if self.notes:
            text += "\n### Also\n\n" + "\n".join(f"- {note}" for note in self.notes) + "\n"
        return text

    def write(self):
        """Writes the results that there are so far."""
        directory = self.directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.md").write_text(self.markdown(), encoding="utf-8")
        (directory / "results.json").write_text(json.dumps(self.json(), indent=1), encoding="utf-8")
        (directory / "results.svg").write_text(chart(list(self.measures.values())), encoding="utf-8")


WIDTH, LABEL, BAR, HEAD, GAP = 760, 190, 17, 26, 16


def bars(measure, top):
    """One block of the chart and its height."""
    largest = max(max(measure.median(s) for s in measure.values), 1e-12)
    parts = [f'<text x="8" y="{top + 17}" class="head">{escape(measure.title)}, {escape(measure.unit)}</text>']
    for number, subject in enumerate(measure.values):
        y = top + HEAD + number * BAR
        length = max(1.0, measure.median(subject) / largest * (WIDTH - LABEL - 130))
        kind = "ours" if subject.startswith("tlsbroker") else "base" if subject == measure.baseline else "peer"
        _, value, _, ratio = measure.row(subject)
        parts.append(f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(subject)}</text>'
                     f'<rect x="{LABEL}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}" class="{kind}"/>'
                     f'<text x="{LABEL + length + 6:.1f}" y="{y + 12}">{value}{f" ({ratio} ×)" if ratio else ""}</text>')
    return "\n".join(parts), HEAD + len(measure.values) * BAR + GAP


def chart(measures):
    top, blocks = 8, []
    for measure in measures:
        block, height = bars(measure, top)
        blocks.append(block)
        top += height
    style = ("text{font:11px sans-serif;fill:#222}.head{font-weight:bold;font-size:12px}"
             ".ours{fill:#1769aa}.peer{fill:#b0b7bf}.base{fill:#7a8691}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}">'
            f"<style>{style}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n" + "\n".join(blocks) + "\n</svg>\n")
