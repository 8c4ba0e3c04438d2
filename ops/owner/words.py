"""The words of the owner's page, in both languages. Plain, short, and without a word that only we use."""

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("zh", "en")

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "zh": {
        "title": "号码焕新进度",
        "sum_done": "全部完成：您选的平台上都没有旧绑定了。",
        "sum_in_progress": "正在处理，还没有全部完成。",
        "sum_done_with_exceptions": "已处理完毕，但有些平台没能解除旧绑定。",
        "sum_withdrawn": "您已撤回授权，我们不会再向任何平台发送您的号码。",
        "number": "号码",
        "asked_on": "申请日期",
        "promised_by": "承诺完成日期",
        "provisional": "该日期是暂定的：国家尚未公布当年的放假安排。",
        "done": "没有旧绑定了",
        "in_progress": "处理中",
        "not_possible": "未能办理",
        "turn_operator": "由运营商处理。",
        "turn_platform": "由该平台处理。",
        "turn_owner": "需要您办理，请联系该平台。",
        "cancelled": "已停止，没有再发送。",
        "ask_desk": "请向您的运营商客服咨询。",
        "sensitive": "为保护他人隐私，以下各类只显示总体进度。",
        "count": "{done} / {platforms} 个平台已完成",
        "by_platform": "各平台进度",
        "withdraw_title": "撤回授权",
        "withdraw_about": "撤回后，还没有发送的申请会全部停止；已经发送的，我们会通知支持撤回的平台。"
        "已经解除的绑定不会恢复。撤回后不能取消。",
        "withdraw_sure": "我已了解，确认撤回",
        "withdraw_button": "撤回授权",
        "footer": "知道这个链接的人都能看到此页，请不要转发。链接会在 30 天后失效。",
        "gone_title": "链接无效",
        "gone": "这个链接不存在或者已经失效。请向您的运营商客服索取新的链接。",
        "slow_title": "请稍候",
        "slow": "访问太频繁，请过一会儿再试。",
        "other_language": "English",
        "group_bank": "银行", "group_device": "智能设备", "group_education": "教育", "group_express": "快递",
        "group_finance": "银行、支付与理财", "group_food": "餐饮外卖", "group_games": "游戏",
        "group_government": "政务", "group_health": "医疗健康", "group_dating": "婚恋交友",
        "group_local": "本地生活", "group_mobility": "出行汽车",
        "group_music": "音乐音频", "group_news": "资讯阅读", "group_office": "办公", "group_shopping": "购物",
        "group_social": "社交", "group_tools": "工具", "group_travel": "旅行票务", "group_video": "视频直播",
        "group_other": "其他",
    },
    "en": {
        "title": "How far your request is",
        "sum_done": "All done: no old binding remains at the platforms you chose.",
        "sum_in_progress": "In progress: not everything is done yet.",
        "sum_done_with_exceptions": "Work has ended, but at some platforms an old binding could not be removed.",
        "sum_withdrawn": "You have withdrawn your authorisation. Your number is sent to no platform any more.",
        "number": "Number",
        "asked_on": "Asked on",
        "promised_by": "Promised by",
        "provisional": "This date is provisional: the public holidays of that year are not announced yet.",
        "done": "No old binding remains",
        "in_progress": "In progress",
        "not_possible": "Not possible",
        "turn_operator": "Your operator is on it.",
        "turn_platform": "The platform is on it.",
        "turn_owner": "It is your turn: please contact the platform.",
        "cancelled": "Stopped: nothing more was sent.",
        "ask_desk": "Please ask your operator's service desk.",
        "sensitive": "To protect the privacy of others, these are shown only as a whole.",
        "count": "{done} of {platforms} done",
        "by_platform": "Platform by platform",
        "withdraw_title": "Withdraw your authorisation",
        "withdraw_about": "Whatever has not been sent is stopped. Platforms that were asked already are told, where"
        " they can be told. A binding that is removed does not come back. This cannot be undone.",
        "withdraw_sure": "I understand, and want to withdraw",
        "withdraw_button": "Withdraw",
        "footer": "Whoever knows this link can see this page, so do not pass it on. It ends after 30 days.",
        "gone_title": "This link leads nowhere",
        "gone": "It does not exist, or has ended. Please ask your operator's service desk for a new one.",
        "slow_title": "One moment, please",
        "slow": "There were too many visits. Please try again in a little while.",
        "other_language": "中文",
        "group_bank": "Banks", "group_device": "Devices", "group_education": "Education", "group_express": "Parcels",
        "group_finance": "Banks, payment and investment", "group_food": "Food", "group_games": "Games",
        "group_government": "Government", "group_health": "Health", "group_dating": "Dating",
        "group_local": "Local services", "group_mobility": "Mobility", "group_music": "Music", "group_news": "News",
        "group_office": "Office", "group_shopping": "Shopping", "group_social": "Social", "group_tools": "Tools",
        "group_travel": "Travel",
        "group_video": "Video", "group_other": "Others",
    },
}  # fmt: skip


def group_name(words: Mapping[str, str], key: str) -> str:
    """Return a category as people call it; one that we have no word for is one of the others."""
    return words.get(f"group_{key}", words["group_other"])


def chosen(accept_language: str, asked: str | None) -> str:
    """Return the language of a page: the one that was asked for, else the first of the browser's that we have."""
    if asked in LANGUAGES:
        return asked
    for part in accept_language.split(","):
        tag = part.partition(";")[0].strip().lower()
        if tag.split("-")[0] in LANGUAGES:
            return tag.split("-")[0]
    return LANGUAGES[0]
