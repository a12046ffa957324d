"""Where drives come from: readers of recorded logs, camera logs, bundled samples, sources that combine them."""
