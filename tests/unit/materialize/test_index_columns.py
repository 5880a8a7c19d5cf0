import pandas as pd
import pytest

from hcsflow.errors import ContractError
from hcsflow.materialize import as_table


def test_an_index_with_a_name_is_a_column():
    sizes = pd.DataFrame({"kind": ["a", "b", "a"], "n": [1, 2, 3]}).groupby("kind").sum()
    assert as_table(sizes).to_dict("list") == {"kind": ["a", "b"], "n": [4, 2]}
    assert as_table(pd.DataFrame({"n": [1, 2]}).loc[[1]]).to_dict("list") == {"n": [2]}
    with pytest.raises(ContractError, match="index and a column named 'n'"):
        as_table(pd.DataFrame({"n": [1]}, index=pd.Index([1], name="n")))
