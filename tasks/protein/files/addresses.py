"""Where published data can be fetched, and the MD5 sums of the files. Standard library only."""

# Copies of HotProtein's data (MIT; sequences from UniProt, CC BY 4.0) in public repositories, at fixed commits. HP-S2C2
# is the original archive and folds, HP-S2C5 its sequences and folds as CSV.
homes = {
    "hp-s2c2": "https://raw.githubusercontent.com/Oh-myungsok/hotprotein-app/78b25bff7453d998d0f8ab01de3f0c378ccb1281/s2c2/",
    "hp-s2c5": (
        "https://raw.githubusercontent.com/cihebiyql/fusionprop/6091a299744a60c9c7e361225632d32c54050619/"
        "data/thermostability/"
    ),
}
_s2c2 = (  # of each fold's temperatures and of its classes
    ("fce5152569a4603f3b7257d454eb226f", "b13fefa01823845d8d8ef8946d7ba4f2"),
    ("51fcc867e2eb0dfd559951c6bfd9c0dd", "ab6edd259267544959b99c8c3ee9c989"),
    ("fb74c5b4726621d9de18232339d2f600", "af656b6af2100fbe3bd4a9340a704e8a"),
    ("9d0a437bf46a65c3bfb4bf3dced0a478", "05b6881b51cacf658d3306024340aae0"),
    ("ac4bad182bf592e5ae32559c99aa13fc", "5bdc825eb123ddb1fbdc652ea74ddbca"),
    ("d36fbd5689f1214c08256e528e276754", "44f9c9a508ba59253bd79745fde57ef0"),
    ("da1a826e6d5543f8de8a266f3719a13f", "05ce5076af05ad1db0074ee1973fc88d"),
    ("4f0eb23d33a39f8e05d5d208f9e3f454", "a49f4531bf7d29fff0199ae4d3ca23cd"),
    ("cc29bfe7eff8df43a2add83708ee357a", "ccebbe52fa51206a1ab0e05e6e065aa4"),
    ("83e370d373a7c6457dec031b93dc7f77", "59109e31c9d38c77590600ed95bc4f7c"),
)
_s2c5 = (  # of each fold's test and training part
    ("0fb1d8ac5939eede4c54e52fa8a53135", "b8c5df272ea9c5183c7946f340c02903"),
    ("f6037d409721f0dff6acbb0bb3c483a9", "e2dd72d4720acfead8235b3cd1ff9883"),
    ("79d63e8c9e2c55b37a5b6b3d845ba928", "1123b2a202c0455dbe0062c34b3b5085"),
    ("143c979e82a15680026709e9e6099626", "09369ae5ef00ae20c7a08c0e30b45e14"),
    ("c8a198db96557230f613214f86525c47", "67ed41f606bb3d261466a527cb1862dd"),
    ("09fe46f5b3c869b75ce37dc71d3e3ab9", "95b866f26d854fe2c41c6f0c25615ec2"),
    ("0188513b30282c9b3d15faaaa5397b00", "65aa9de3909a9888772099c2cadbd1e3"),
    ("a91f03a148d6dd63659ef129e37884d1", "6001bd4c01dc1c4b9a4c757a73010274"),
    ("8b8ba58d8969813d7526ae156bc7b4b1", "5a3d17338454fc41938b4d49b291674f"),
    ("cc59d41d6dabc0e05c2e10aeba586b6e", "a3773bce36d8f846b3317f67e4235c1b"),
)
_s2c2_csv = (  # HP-S2C2 as the copy of HP-S2C5 has it: of each fold's test and training part
    ("f97456509b4de891a2d4e3bada6ad21b", "66c0d5daef747f43ba34195962b6ce04"),
    ("2359779182f9d5a6c5aedb7fb2983d74", "46d3e979084c8f69c9ae8868fff97a9a"),
    ("891551a4377961dc447fcca0c1788a2c", "b95cda5da97e245b0f5f40d8fc78c637"),
    ("66a96ff3e605a2a9cefe3c9b5354d5f9", "8fff1a99e4b1084311b16705c1e47891"),
    ("8d75f01fdf047a96621ddcad6bb329f9", "72365197bdae1ab6dd6e0d2075a87232"),
    ("f580cda0398b9c68c5b70448fde2e9db", "0311711f0b90b67d9a3942b57d2647fa"),
    ("b19e65ffb6486d1b97bef4ec2315045b", "34c835225dc138b9b7cf345ac53e561f"),
    ("a362d1cb0adef6f0d66a5ad225cb0bb8", "2c643239e24c70178474eb49728a2ab6"),
    ("29a974f134f5c9ea6a8196efe2bde32d", "b3b78abbd1cd673dec79762fa541cedb"),
    ("d7aa05e5d47b8c0a272867b4c5500abf", "84b0a578d1265c9463b4cd83f913817e"),
)
sums = {
    "hp-s2c2": {
        "d1_fasta_clean.tar.gz": "41f602d6dc66df60e328375d16d39e75",
        **{f"d1_{n}{end}.pkl": s for n, row in enumerate(_s2c2) for end, s in zip(("", "_classification"), row)},
    },
    "hp-s2c5": {f"s2c5_{n}_{part}.csv": s for n, row in enumerate(_s2c5) for part, s in zip(("test", "train"), row)},
}
# What may lie in a folder instead: other files, or the sequences in another form (``datasets.of_sequences``).
also = {"hp-s2c2": {f"s2c2_{n}_{p}.csv": s for n, row in enumerate(_s2c2_csv) for p, s in zip(("test", "train"), row)}}
sequences = {"hp-s2c2": "f59f6ab3c943b62cb6db27aebc009159"}  # of d1_fasta_clean.tar.gz
elsewhere = {
    "hp-s": "expected as in HotProtein: a folder S_target of FASTA files, and S_target_classification.pkl",
    "meltome": "github.com/J-SNACKKB/FLIP has it in splits/meltome: mixed_split.csv in splits.zip",
}
