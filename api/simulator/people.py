"""Made-up people: names in many scripts, addresses under the reserved example domains, +1555 telephone numbers."""

from random import Random

from msgspec import Struct

GIVEN_NAMES = (
    "Ada", "Aisha", "Алёна", "Ana", "Björn", "Chloé", "Dmitri", "Eun-ji", "Fatima", "Goran", "Hana", "Ifeoma",
    "Jean-Luc", "João", "Κατερίνα", "Kirsi", "Łukasz", "Mateo", "Nkechi", "Øyvind", "Priya", "Quinn", "Rosa",
    "Søren", "Tomás", "Uma", "Việt", "Wanjiru", "Xavier", "Yuki", "Zoë", "美咲", "지우", "नेहा", "ليلى", "נועה",
)  # fmt: skip
FAMILY_NAMES = (
    "Abe", "Castillo", "Çelik", "D’Angelo", "Eriksen", "Fernández", "García", "Haddad", "Ivanova", "Jung", "Kowalska",
    "Lindqvist", "Mensah", "Nguyễn", "O'Brien", "Ødegård", "Okafor", "Park", "Παππάς", "Quispe", "Ruiz", "Smith-Jones",
    "Tanaka", "Ünal", "Van der Berg", "Williams", "Xu", "Yılmaz", "Žižka", "田中", "김", "शर्मा", "حداد", "לוי",
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net")
LOCALES = ("en", "de", "fr", "es", "pt-BR", "pl", "ja", "zh-CN", "ar")

TIME_ZONES = (
    ("Africa/Johannesburg", 120),
    ("Africa/Lagos", 60),
    ("Africa/Nairobi", 180),
    ("America/Bogota", -300),
    ("America/Phoenix", -420),
    ("America/Sao_Paulo", -180),
    ("Asia/Dubai", 240),
    ("Asia/Kathmandu", 345),
    ("Asia/Kolkata", 330),
    ("Asia/Tokyo", 540),
    ("Atlantic/Reykjavik", 0),
    ("Australia/Eucla", 525),
)
"""Zone and offset in minutes. None of them has summer time, so no date and no zone database is needed."""

CAPITALISED_SHARE = 0.08
PHONE_SHARE = 0.4


class Attendee(Struct, frozen=True, kw_only=True):
    """One attendee row of a booking; `id` is the row's, new for every booking."""

    id: int
    first_name: str
    last_name: str
    email: str
    phone: str | None
    time_zone: str
    utc_offset_minutes: int
    locale: str

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Host(Struct, frozen=True, kw_only=True):
    """One member of the made-up team."""

    id: int
    name: str
    username: str
    time_zone: str
    utc_offset_minutes: int
    time_format: str

    @property
    def email(self) -> str:
        return f"{self.username}@studio.example.com"


HOSTS = (
    Host(id=1007, name="Rosa D’Angelo", username="rosa", time_zone="America/Phoenix", utc_offset_minutes=-420,
         time_format="h:mma"),
    Host(id=1014, name="Tomás Okafor", username="tomas", time_zone="Africa/Lagos", utc_offset_minutes=60,
         time_format="HH:mm"),
    Host(id=1021, name="Quinn Nguyễn", username="quinn", time_zone="Asia/Kolkata", utc_offset_minutes=330,
         time_format="HH:mm"),
    Host(id=1028, name="Алёна Lindqvist", username="alyona", time_zone="Atlantic/Reykjavik", utc_offset_minutes=0,
         time_format="h:mma"),
)  # fmt: skip


def attendee(rng: Random, *, attendee_id: int) -> Attendee:
    """Somebody new, with an address of their own; some addresses have capitals, as people type them."""
    time_zone, utc_offset_minutes = rng.choice(TIME_ZONES)
    email = f"guest{attendee_id}@{rng.choice(MAIL_DOMAINS)}"
    return Attendee(
        id=attendee_id,
        first_name=rng.choice(GIVEN_NAMES),
        last_name=rng.choice(FAMILY_NAMES),
        email=email.capitalize() if rng.random() < CAPITALISED_SHARE else email,
        phone=f"+1555{rng.randrange(10_000_000):07}" if rng.random() < PHONE_SHARE else None,
        time_zone=time_zone,
        utc_offset_minutes=utc_offset_minutes,
        locale=rng.choice(LOCALES),
    )
