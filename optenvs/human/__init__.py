"""People as oracles: sessions of ranking, on disk and on a local page (extra ``human``)."""
