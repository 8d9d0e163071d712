"""Where the published files can be fetched, and their MD5 sums. Standard library only."""

# The data of SVAMP's authors (MIT), at a fixed commit; SMC-Bench has the same files.
home = "https://raw.githubusercontent.com/arkilpatel/SVAMP/689d7ccac74b9983a2ac7cc3b264f441b99e7c53/data/"
below = {"mawps": "cv_mawps", "asdiv-a": "cv_asdiv-a", "svamp": "mawps-asdiv-a_svamp"}  # folder of each data set there
_folds = {  # of each fold's training and evaluation part
    "mawps": (
        ("cec465a240004e5e41facf3b5159aef9", "e35153f044df247eeed2c2892642cdc7"),
        ("aee961424d0fc1359ecfb1f5edacee71", "fa84748260b41420ef0a56f5e3de5a2e"),
        ("611963c4bdfc308effa629d8e0b7cda3", "00043a8f359d317b09709f2c945aacba"),
        ("455f0c426f615094f6b4337eecbfbe84", "e64eeceac48b5f5c6f05278806f73cf7"),
        ("64a78b7100ac2cce26c5ef7880ed6103", "14e460e0312f7e937d3f7f02a25d4d10"),
    ),
    "asdiv-a": (
        ("567447ec5e191db9296414252d47fa5b", "c81d4215d53826afc1949993c4d1f9be"),
        ("e6cdd8e6373a7740bedf38fa0ba36efa", "d06437581257f754e9ed9b100374010d"),
        ("9293ff845737d0186c825e5c193f8167", "4358faa40c770d84515a4872f8040751"),
        ("698085d49ea9840ecdf956af59b09717", "2f6189362806fde4337c880f2f1f7a4a"),
        ("24fdcb9e320614d9501881accacf3850", "222e0bb94c22b953c021681cead7a9c4"),
    ),
}
sums = {
    name: {f"fold{n}/{part}.csv": s for n, row in enumerate(rows) for part, s in zip(("train", "dev"), row)}
    for name, rows in _folds.items()
}
sums["svamp"] = {"train.csv": "95b9694500d6e20137e74686a9052a3b", "dev.csv": "c83a1a5025ead3cd22846332777dc41b"}
