# What several rules say about their outputs.


def shown(files):
    """The files of tables; CSVs and the main table's manifest stand in the report, each with its caption."""
    return [in_report(file) for file in files]


def in_report(file):
    """A file as the report shows it, if it does."""
    name = Path(file).name
    if name == "main.csv.manifest.json":
        caption, category = "manifest", "Provenance"
    elif name.endswith(".csv"):
        caption, category = Path(file).stem, "Tables"
    else:
        return file
    if caption.startswith("sweep_"):
        caption = "sweep"
    return report(
        file,
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"what": Path(file).stem, "format": Path(file).suffix[1:]},
    )
