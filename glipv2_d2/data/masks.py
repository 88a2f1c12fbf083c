"""The records of a data set that a mask head learns from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .counters import Counters
from .problems import RecordError

Record = dict[str, Any]

WITHOUT_MASK = "boxes without a mask, left out"
# So many records, evenly spread, are looked at before the training begins.
LOOKED_AT = 1000


class MaskedRecords(Sequence):
    """Records whose boxes all have masks; the others count as crowds.

    They are not trained on then, and what is in them is not called absent from the image either.

    Args:
        records: of a data set.
        dataset_name: for the messages.

    Attributes:
        counters: of what is left out (`Counters`).

    Raises:
        DataError: no annotation that was looked at has a segmentation.
    """

    def __init__(self, records: Sequence[Record], dataset_name: str):
        self.records = records
        self.counters = Counters((WITHOUT_MASK,), __name__)
        self._require_masks(dataset_name)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        record = self.records[index]
        lacking = sum(map(_lacks_mask, record.get("annotations", ())))
        if not lacking:
            return record
        self.counters.add(WITHOUT_MASK, lacking, str(record["file_name"]))
        annotations = [{**a, "iscrowd": 1} if _lacks_mask(a) else a for a in record["annotations"]]
        return {**record, "annotations": annotations}

    def _require_masks(self, dataset_name: str) -> None:
        boxes = lacking = 0
        for index in range(0, len(self.records), max(len(self.records) // LOOKED_AT, 1)):
            try:
                annotations = self.records[index].get("annotations", ())
            except RecordError:  # counted where it is trained on
                continue
            boxes += sum(not a.get("iscrowd", 0) for a in annotations)
            lacking += sum(map(_lacks_mask, annotations))
        if boxes and lacking == boxes:
            raise DataError(
                f"data set {dataset_name!r}: masks are to be trained on (use_masks=True), but none "
                f"of {boxes} annotations that were looked at has a segmentation: take the data set "
                "out of dataloader.train.datasets, or set dataloader.train.mapper.use_masks=False"
            )
        if lacking:
            logging.getLogger(__name__).warning(
                "data set %r: %d of %d annotations that were looked at have no segmentation",
                dataset_name,
                lacking,
                boxes,
            )


def _lacks_mask(annotation: Record) -> bool:
    return not annotation.get("iscrowd", 0) and not annotation.get("segmentation")
