"""Export of finished runs to other formats."""
