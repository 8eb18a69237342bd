"""Function words, by language: in a query they match most documents and say little about any.

Documents keep them. A query of nothing else keeps them too. Languages that are not here have stems, and no such list.
"""

from __future__ import annotations

STOP_WORDS = {
    "english": """
        a about above after again against all also am an and any are as at be because been before being below between
        both but by can cannot could did do does doing down during each few for from further had has have having he her
        here hers herself him himself his how i if in into is it its itself many me might more most much must my myself
        no nor not of off on once only or other ought our ours ourselves out over own same she should so some such than
        that the their theirs them themselves then there these they this those through to too under until up us very
        was we were what when where which while who whom whose why will with would you your yours yourself yourselves
    """,
    "arabic": """
        من إلى في على عن مع هل ما ماذا متى أين كيف كم لماذا هو هي هم هن هذا هذه ذلك تلك التي الذي الذين أن إن أو و
        ثم قد كان كانت لا لم لن ليس بين كل بعد قبل حتى عند أي
    """,
    "catalan": """
        a al als amb aquest aquesta com de del dels des el els en era és eren ha han hi i la les li lo més no o on
        per perquè però quan que què qui quin quina s' se són seu seva si un una uns
    """,
    "danish": """
        af at da de dem den der det du en er et for fra han har hun hvad hvem hvor hvordan hvorfor hvornår i ikke
        jeg kan man med men mig når og om op på sig som så til ud var vi vil
    """,
    "dutch": """
        aan als bij dat de den der deze die dit door een en er had hebben heeft het hij hoe hun ik in is je kan maar
        met mijn naar niet of om ook op over te tot u uit van voor waar waarom wanneer was wat we welke werd wie
        worden wordt zich zij zijn zo
    """,
    "finnish": """
        ei en että he hän ja jo joka jos ja kuin kuka kun me mikä milloin missä miten miksi minä mitä mutta myös ne
        niin on oli olivat olla ovat se sen siitä sinä tai te tämä vai voi
    """,
    "french": """
        a à au aux avec c ce ces cette comment d dans de des du elle elles en est et était eu il ils j je l la le
        les leur leurs lui m ma mais me mes mon n ne nos notre nous on ont ou où par pas pour pourquoi qu quand que
        quel quelle quelles quels qui s sa sans se ses son sont sur t ta te tes toi ton tu un une vos votre vous y
    """,
    "german": """
        aber als am an auch auf aus bei bin bis das dass dem den der des die doch du durch ein eine einem einen
        einer eines er es für hat hatte haben ich ihr im in ist ja kann man mit nach nicht noch nur oder sich sie
        sind so über um und uns unter vom von vor wann war waren warum was welche welcher welches wenn wer werden
        wie wieso wir wird wo wurde wurden zu zum zur
    """,
    "greek": """
        ο η το οι τα του της των τον την τους τις ένα ένας μια και κι στο στη στην στον στα στους με σε από για που
        πως πώς ποιος ποια ποιο πότε πού τι γιατί είναι ήταν δεν θα να ως ή αλλά
    """,
    "hindi": """
        का के की को में से पर है हैं था थे थी और या यह वह ये वे क्या कौन कब कहाँ कैसे क्यों ने एक भी तो ही जो कि लिए
        हो इस उस
    """,
    "hungarian": """
        a az egy és hogy nem is ez azt ezt de ha ki mi mit mikor hol hogyan miért melyik van volt lesz vagy meg már
        még csak mint el be fel ami aki
    """,
    "indonesian": """
        ada adalah apa atau bagaimana dan dari dengan di dia ini itu kapan karena ke kita mana mereka mengapa oleh
        pada saya siapa tidak untuk yang
    """,
    "italian": """
        a ad ai al alla alle agli che chi ci come con cosa da dal dalla dei del della delle degli di dove e è ed era
        gli ha hanno i il in io l la le lo loro ma mi nel nella nelle non o per perché più qual quale quali quando
        quanto quello questa questo se si sono su sua sul sulla suo tra un una uno
    """,
    "norwegian": """
        at av da de dem den der det du en er et for fra han har hun hva hvem hvor hvordan hvorfor i ikke jeg kan man
        med men meg når og om opp på seg som så til ut var vi vil
    """,
    "portuguese": """
        a ao aos as às com como da das de do dos e é ela elas ele eles em era essa esse esta este eu foi há isso já
        mais mas me na não nas nem no nos o onde os ou para pela pelo por porque porquê qual quais quando que quem
        se sem ser seu sua são também te tem um uma você
    """,
    "romanian": """
        a al ale am are au ca care ce cine când cu cum da de din după ea ei el este eu fi în la lui mai ne nu o pe
        pentru prin sau se sunt și un una unde unei unui va
    """,
    "russian": """
        а без более был была были было быть в вам вас во вот все вы где да для до его ее если есть еще же за и из
        или им их к как какая какие какой когда кто ли мне может мы на не нет но о об он она они от по почему при с
        со так такой там то того только ты у уже чем что чтобы эта эти это этот я
    """,
    "spanish": """
        a al algo como cómo con cuál cuáles cuando cuándo cuánto cuántos de del donde dónde e el él ella ellas ellos
        en entre era es esa ese eso esta está este esto fue ha han hay la las le les lo los más me mi muy no nos o
        para pero por porque qué que quién quiénes se ser si sin sobre son su sus también te tiene tu un una unas
        uno unos y ya yo
    """,
    "swedish": """
        att av de dem den det du där en ett från för han har hon hur i inte jag kan man med men mig när och om på
        sig som så till ut vad var varför vem vi vilka vilken vilket vill är
    """,
    "turkish": """
        bir bu da de daha en gibi hangi hem her için ile kadar ki kim mi mı mu mü nasıl ne neden nerede niçin o olan
        olarak oldu ve veya ya
    """,
}
