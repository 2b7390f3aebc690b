"""From runs, or anybody's table of runs, to fitted scaling laws with honest intervals."""
