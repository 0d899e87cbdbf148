# What several rules say about their outputs, and which logs are quoted for failed jobs.


def shown(files):
    """The files of tables; CSVs and the main table's manifest are shown in the report, with captions."""
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


def logs_of_failed(scheduler):
    """Log files of the jobs that failed after all retries; jobs of a group are listed one by one."""
    failed = [
        job
        for one in scheduler.failed
        for job in (one.jobs if one.is_group() else [one])
    ]
    return [log for job in failed for log in job.log]
