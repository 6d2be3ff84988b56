"""The evaluation report: an HTML page, its charts, and summaries for the terminal."""
