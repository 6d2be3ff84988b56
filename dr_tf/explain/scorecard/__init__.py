"""How far maps may be believed: measured against lesion masks, by what the network then says, and beside two baselines."""
