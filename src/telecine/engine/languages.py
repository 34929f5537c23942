"""Pure: the language that a file states, as a tag that players know, and its name in English.

Files say "deu", "ger" or "de-DE"; HLS and DASH want the tags of RFC 5646, of whose codes the
shortest is the one to use (2.2.1): "de". The codes are those of ISO 639-1 and 639-2.
"""

from __future__ import annotations

import re

# Two letters (639-1), three (639-2/T, and 639-2/B where that differs), name.
_TABLE = """
aa aar Afar; ab abk Abkhazian; ae ave Avestan; af afr Afrikaans; ak aka Akan; am amh Amharic;
an arg Aragonese; ar ara Arabic; as asm Assamese; av ava Avaric; ay aym Aymara;
az aze Azerbaijani; ba bak Bashkir; be bel Belarusian; bg bul Bulgarian;
bh bih Bihari; bi bis Bislama; bm bam Bambara; bn ben Bengali; bo bod/tib Tibetan;
br bre Breton; bs bos Bosnian; ca cat Catalan; ce che Chechen; ch cha Chamorro;
co cos Corsican; cr cre Cree; cs ces/cze Czech; cu chu Church Slavic; cv chv Chuvash;
cy cym/wel Welsh; da dan Danish; de deu/ger German; dv div Divehi; dz dzo Dzongkha; ee ewe Ewe;
el ell/gre Greek; en eng English; eo epo Esperanto; es spa Spanish; et est Estonian;
eu eus/baq Basque; fa fas/per Persian; ff ful Fulah; fi fin Finnish; fj fij Fijian;
fo fao Faroese; fr fra/fre French; fy fry Western Frisian; ga gle Irish; gd gla Gaelic;
gl glg Galician; gn grn Guarani; gu guj Gujarati; gv glv Manx; ha hau Hausa; he heb Hebrew;
hi hin Hindi; ho hmo Hiri Motu; hr hrv Croatian; ht hat Haitian; hu hun Hungarian;
hy hye/arm Armenian; hz her Herero; ia ina Interlingua; id ind Indonesian; ie ile Interlingue;
ig ibo Igbo; ii iii Sichuan Yi; ik ipk Inupiaq; io ido Ido; is isl/ice Icelandic;
it ita Italian; iu iku Inuktitut; ja jpn Japanese; jv jav Javanese; ka kat/geo Georgian;
kg kon Kongo; ki kik Kikuyu; kj kua Kuanyama; kk kaz Kazakh; kl kal Kalaallisut;
km khm Central Khmer; kn kan Kannada; ko kor Korean; kr kau Kanuri; ks kas Kashmiri;
ku kur Kurdish; kv kom Komi; kw cor Cornish; ky kir Kirghiz; la lat Latin;
lb ltz Luxembourgish; lg lug Ganda; li lim Limburgan; ln lin Lingala; lo lao Lao;
lt lit Lithuanian; lu lub Luba-Katanga; lv lav Latvian; mg mlg Malagasy; mh mah Marshallese;
mi mri/mao Maori; mk mkd/mac Macedonian; ml mal Malayalam; mn mon Mongolian; mr mar Marathi;
ms msa/may Malay; mt mlt Maltese; my mya/bur Burmese; na nau Nauru; nb nob Bokmål;
nd nde Ndebele; ne nep Nepali; ng ndo Ndonga; nl nld/dut Dutch; nn nno Norwegian Nynorsk;
no nor Norwegian; nr nbl Ndebele; nv nav Navajo; ny nya Chichewa; oc oci Occitan;
oj oji Ojibwa; om orm Oromo; or ori Oriya; os oss Ossetian; pa pan Panjabi; pi pli Pali;
pl pol Polish; ps pus Pushto; pt por Portuguese; qu que Quechua; rm roh Romansh; rn run Rundi;
ro ron/rum Romanian; ru rus Russian; rw kin Kinyarwanda; sa san Sanskrit; sc srd Sardinian;
sd snd Sindhi; se sme Northern Sami; sg sag Sango; si sin Sinhala; sk slk/slo Slovak;
sl slv Slovenian; sm smo Samoan; sn sna Shona; so som Somali; sq sqi/alb Albanian;
sr srp Serbian; ss ssw Swati; st sot Sotho; su sun Sundanese; sv swe Swedish; sw swa Swahili;
ta tam Tamil; te tel Telugu; tg tgk Tajik; th tha Thai; ti tir Tigrinya; tk tuk Turkmen;
tl tgl Tagalog; tn tsn Tswana; to ton Tonga; tr tur Turkish; ts tso Tsonga; tt tat Tatar;
tw twi Twi; ty tah Tahitian; ug uig Uighur; uk ukr Ukrainian; ur urd Urdu; uz uzb Uzbek;
ve ven Venda; vi vie Vietnamese; vo vol Volapük; wa wln Walloon; wo wol Wolof; xh xho Xhosa;
yi yid Yiddish; yo yor Yoruba; za zha Zhuang; zh zho/chi Chinese; zu zul Zulu
"""

_SHORTEST: dict[str, str] = {}
_NAMES: dict[str, str] = {}
for _row in _TABLE.split(";"):
    _code, _longer, _name = _row.strip().split(maxsplit=2)
    _NAMES[_code] = _name
    for _text in (_code, *_longer.split("/"), _name.lower()):
        _SHORTEST[_text] = _code

_TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_UNSAID = ("und", "mis", "mul", "xx")  # undetermined, uncoded, several, and what some tools write


def language_tag(text: str | None) -> str | None:
    """The tag of RFC 5646 for what a file states: "ger" → "de", "pt_BR" → "pt-BR"; None where it
    states no language, or nothing that is a tag."""
    if text is None:
        return None
    said = text.strip().lower().replace("_", "-")
    primary, *others = _SHORTEST.get(said, said).split("-")
    primary = _SHORTEST.get(primary, primary)
    if primary in _UNSAID or not _TAG.fullmatch("-".join([primary, *others])):
        return None
    return "-".join([primary, *(_cased(subtag) for subtag in others)])


def _cased(subtag: str) -> str:
    """As RFC 5646 writes them (2.1.1): regions in capitals, scripts as names."""
    if len(subtag) == 2:
        return subtag.upper()
    return subtag.title() if len(subtag) == 4 and subtag.isalpha() else subtag


def language_name(tag: str) -> str:
    """The English name: "pt-BR" → "Portuguese (BR)"; the tag itself where none is known."""
    primary, _, rest = tag.partition("-")
    name = _NAMES.get(primary)
    if name is None:
        return tag
    return f"{name} ({rest})" if rest else name
