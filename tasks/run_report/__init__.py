"""One page about a run, or about where a survey stands: HTML that needs no other file."""

from tasks.run_report.page import RunReport, report_survey

__all__ = ["RunReport", "report_survey"]
