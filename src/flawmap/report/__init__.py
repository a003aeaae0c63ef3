"""Results as pictures and as one HTML file; neither torch nor OpenCV."""

from flawmap.report.html import write_report as write_report
from flawmap.report.sheet import write_sheet as write_sheet
