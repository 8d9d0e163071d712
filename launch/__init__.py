"""The launcher: plans sweeps, runs their stages here or on a cluster, and shows what came of them."""
