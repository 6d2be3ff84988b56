"""One page that tells what a run is worth: no script, no network, good on paper and on a phone."""
