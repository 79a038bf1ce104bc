#!/usr/bin/env python3
"""Draws the plots of doc/performance.md from the JSON files of the load tool. Needs only Python.

usage: plot.py JSON-FOLDER SVG-FOLDER
"""

import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 64, 48, 40, 24
COLOURS = ["#1b6ca8", "#c2571a", "#3a7d44"]


def figures(path):
    """Reads one file: {name of the run: {phase: {figure: value}}}, and the scenario."""
    document = json.loads(path.read_text())
    return {run["name"]: run["phases"] for run in document["runs"]}, document["scenario"]


def series(folder, pattern, x_of, run, phase, key):
    points = []
    for path in folder.glob(pattern):
        runs, scenario = figures(path)
        value = runs.get(run, {}).get(phase, {}).get(key)
        if value is not None:
            points.append((scenario[x_of], value))
    return sorted(points)


def ticks(low, high):
    """The values 1, 2 and 5 times each power of ten, from `low` to `high`."""
    steps = [m * 10.0**e for e in range(-3, 8) for m in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def draw(path, title, x_label, y_label, lines):
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points if y > 0]
    if not xs or not ys:
        print(f"{path.name}: no figures")
        return
    x_low, x_high, y_low, y_high = min(xs) / 1.2, max(xs) * 1.2, min(ys) / 1.5, max(ys) * 1.5

    def scale(value, low, high, start, end):
        return start + (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) * (end - start)

    def at(x, y):
        return (scale(x, x_low, x_high, LEFT, WIDTH - RIGHT), scale(y, y_low, y_high, HEIGHT - BOTTOM, TOP))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_label}</text>',
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">{y_label}</text>',
    ]
    for x in ticks(x_low, x_high):
        px, _ = at(x, y_low)
        out.append(f'<path d="M{px:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    for y in ticks(y_low, y_high):
        _, py = at(x_low, y)
        out.append(f'<path d="M{LEFT} {py:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        positions = [at(x, y) for x, y in points]
        out.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
            + " ".join(f"{px:.1f},{py:.1f}" for px, py in positions)
            + '"/>'
        )
        out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>' for px, py in positions]
        out.append(f'<text x="{WIDTH - RIGHT - 150}" y="{TOP + 16 + 16 * number}" fill="{colour}">{name}</text>')
    path.write_text("\n".join(out) + "\n</svg>\n")
    print(path.name)


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    rate, clients = "messages_per_second", "clients"
    draw(
        target / "cost-by-messages.svg",
        "Server CPU per delivery, 1,000 clients",
        "messages per second",
        "microseconds per delivery",
        [
            (run, series(source, "chat-*.json", rate, run, "chat", "cpu_us_per_delivery"))
            for run in ("ich", "bare loop")
        ],
    )
    draw(
        target / "storm-by-people.svg",
        "All clients join at once",
        "clients",
        "seconds",
        [
            ("until all joins are delivered", series(source, "storm-*.json", clients, "ich", "storm", "quiet_seconds")),
            ("server CPU", series(source, "storm-*.json", clients, "ich", "storm", "server_cpu_seconds")),
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
