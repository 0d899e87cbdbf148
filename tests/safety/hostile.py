"""Texts that do harm where they are shown as they are."""

TEXTS = [
    "\x1b[2J\x1b[31mred\x1b]8;;http://x\x1b\\link\x07",
    "\x9b31m and \r over, \b back, \x00 nothing",
    "right \u202eto left\u202c and \u2066isolated\u2069",
    "hidden \U000e0041\U000e0042 text",
    "two\u2028lines\u2029more",
    "[red]rich[/red] [link=file:///etc/passwd]x[/link]",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|\n| c | [x](javascript:alert(1)) `code` |",
    "\\input{/etc/passwd} \\write18{id} $x$ ^^5cinput",
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "{{ 7 * 7 }} {% include '/etc/passwd' %}",
]
