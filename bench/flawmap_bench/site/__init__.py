"""The documentation as a site: what ``mkdocs`` needs beyond the Markdown files of docs/."""
