"""Folders of transformers are read, and nothing in them is run."""

import json

import pytest

from common.data import hub
from common.errors import UserError

pytest.importorskip("transformers", reason="needs: pip install transformers")


@pytest.mark.parametrize("kind", ["AutoModel", "AutoTokenizer"])
def test_code_that_a_folder_brings_is_not_run(tmp_path, kind):
    trace = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(trace)!r}, 'w')\nclass Own: pass\n")
    wanted = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own", None]}
    content = json.dumps({"model_type": "own", "auto_map": wanted, "tokenizer_class": "Own"})
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="contains custom code"):
        hub.load(kind, tmp_path)
    assert not trace.exists()
