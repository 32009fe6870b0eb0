"""Attribution methods beside TRAK, one file each; all return scores in the same contract."""
