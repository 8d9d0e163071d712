"""Where the published files can be fetched, and their MD5 sums. Standard library only."""

homes = {
    "mnist": ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    "cifar10": ["https://www.cs.toronto.edu/~kriz/"],
}
_mnist = {  # of each file, packed and plain
    "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
}
_cifar10 = {  # of each batch, of the binary version and of the Python version
    "data_batch_1": ("5dd7e06a14cb22eb9f671a540d1b7c25", "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": ("5ea93a67294ea407fff1d09f752e9692", "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": ("942cd6a4bcdd0dd3c604fbe906cb4421", "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": ("ae636b3ba5c66a11e91e8cb52e771fcb", "634d18415352ddfa80567beed471001a"),
    "data_batch_5": ("53f37980c15c3d472c316c40844f3f0d", "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": ("803d5f7f4d78ea53de84dbe85f74fb6d", "40351d587109b95175f43aff81a1287e"),
}
# Of what can be read from a folder, unpacked.
sums = {
    "mnist": {name: plain for name, (_, plain) in _mnist.items()},
    "cifar10": {f"{name}{end}": s for name, row in _cifar10.items() for end, s in zip((".bin", ""), row)},
}
# What to fetch: its sum, and those of the unpacked files that must lie in the folder in the end.
packages = {
    "mnist": {f"{name}.gz": (packed, {name: plain}) for name, (packed, plain) in _mnist.items()},
    "cifar10": {
        "cifar-10-binary.tar.gz": (
            "c32a1d4ab5d03f1284b67883e8d87530",
            {f"{name}.bin": binary for name, (binary, _) in _cifar10.items()},
        )
    },
}
