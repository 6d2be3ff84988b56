"""The page of a clinic: upload photographs, read the decision, look at the evidence, print the report."""
