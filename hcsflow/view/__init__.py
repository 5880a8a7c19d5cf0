"""What is shown: terminal text, progress, the plate map, the HTML report. Read-only."""
