"""Who a sentence names, against sentences read by hand."""

import pytest

from fairloop.corpus.persons import named_person


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("Mr. Dubois is a plumber.", "mr dubois"),
        ("Mr Dubois, the electrician, was late.", "mr dubois"),
        ("Mrs. Dubois is a plumber.", "mrs dubois"),
        ("The nurse met Mrs. O'Donnell on Monday in Paris.", "mrs o'donnell"),
        ("Dr. Laura Vita, a veterinarian, smiled.", "dr laura vita"),
        ("The receptionist, Maria, smiled at Emma Wilson.", "maria"),
        ("Emma Wilson is a carpenter.", "emma wilson"),
        ("Emma Q. Wilson is a carpenter.", "emma q wilson"),
        ("The baker saw Mr. Smith. Anna left.", "mr smith"),
        ("The welder at work is Emma.", "emma"),
        ("Mr. J. Smith works.", "mr j smith"),
        ("The plumber in New York was tired on Monday.", ""),
        ("Detective work is hard.", ""),
        ("Mark the date, said the clerk.", ""),
        ("MR. DUBOIS FIXED IT.", ""),
        ("He said that she was the doctor.", ""),
        ("", ""),
    ],
)
def test_by_hand(text, person):
    assert named_person(text) == person
