"""The table of the peers, as Markdown."""

from typing import Any

HEAD = (
    "| two tasks at a time | keeps a task in | no-op/s | one row/s | enqueue one, ms | enqueue 10,000, /s "
    "| idle p50 / p99, ms | urgent p50 / p99, ms | MB | 25 \N{MULTIPLICATION SIGN} `kill -9`: lost, ran twice, back after |"
)


def render(abouts: dict[str, dict[str, Any]], figures: dict[str, dict[str, float]], outcomes: dict[str, Any]) -> str:
    """Return the table and its notes; a rate is followed by Drumline's as a multiple of it."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for key, got in figures.items():
        times = {name: figures["drumline"][name] / got[name] for name in ("noop", "row", "many")}
        beside = {
            name: "" if key == "drumline" else f" ({ratio:.1f} \N{MULTIPLICATION SIGN})"
            for name, ratio in times.items()
        }
        cells = (
            abouts[key]["name"],
            abouts[key]["keeps"],
            *(f"{got[name]:,.0f}{beside[name]}" for name in ("noop", "row")),
            f"{got['one']:.2f}",
            f"{got['many']:,.0f}{beside['many']}",
            *(f"{got[name + '50']:.1f} / {got[name + '99']:.1f}" for name in ("idle", "urgent")),
            f"{got['memory']:.0f}",
            told(outcomes.get(key)),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for about in abouts.values():
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        lines.append(f"- {about['name']} ({versions}): {about['safe']}. Takes back: {about['back']}.")
    return "\n".join(lines)


def told(outcome: dict[str, Any] | None) -> str:
    if not outcome:
        return ""
    at_once = "never" if outcome["lost"] else "at once"
    back = f"{outcome['recovered']:.0f} s" if outcome["recovered"] >= 1 else at_once
    return f"{outcome['lost']} of {outcome['sent']:,}, {outcome['twice']}, {back}"
