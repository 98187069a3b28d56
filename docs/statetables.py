"""
Draws the states of an exchange from the tables that decide about them.

Run C{python docs/statetables.py} after a change of the tables; it writes C{docs/states.txt}, which the guide includes.
"""

from __future__ import annotations

from pathlib import Path

from twistproxy.core.states import REQUEST_TRANSITIONS, RESPONSE_TRANSITIONS

OUTPUT = Path(__file__).with_name("states.txt")


def drawn() -> str:
    """
    @return: both tables, one transition to a line; transitions that lead nowhere else are left out.
    """
    parts = []
    for title, table in (("request side", REQUEST_TRANSITIONS), ("response side", RESPONSE_TRANSITIONS)):
        rows = [
            f"    {before.value:<10}--{' ' + event.value + ' ':-^22}--> {after.value}"
            for (before, event), after in table.items()
            if before is not after
        ]
        parts.append("\n".join([title, "", *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(drawn())
