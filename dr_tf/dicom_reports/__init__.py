"""Decisions as DICOM objects for the archive that the photographs came from: a structured report and a PDF."""
